"""From a source's rows to the event store on disk."""
