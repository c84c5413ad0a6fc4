"""One page of whatever a folder holds: a comparison, a run, scores, maps or a whole reproduction."""
