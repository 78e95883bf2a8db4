"""What is true of groups of users: drift, early signs of leaving, the operators' alarm beside the model."""
