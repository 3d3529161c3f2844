"""What an auditor holds: exports, the printed recipe, the page, and four referees that are not ours."""
