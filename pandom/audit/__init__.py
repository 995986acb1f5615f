"""Who can do what, is it what was declared, was the trail touched: evidence for an auditor."""
