"""Who a user is at a moment: stage, segment, needs, habits. Borders and needs are tables that an operator edits."""
