"""Sound: files, frames of samples and of spectra, adaptive predictors."""
