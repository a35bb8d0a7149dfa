"""From a request to results: plan, build, fit or resume, predict, export."""
