"""From what a user has (words, a place, a date, a map) to what a denoiser takes."""
