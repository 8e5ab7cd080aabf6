"""Settings of a run that trains in no time."""

TINY = "train.epochs=2 limit.train=96 limit.valid=40 model.latent=3 model.encoder.widths=[16] model.decoder.widths=[16]"
