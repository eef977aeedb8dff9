package layer

import "github.com/fathom-train/fathom/compute/kernel"

// BCEWithLogits returns the sum over samples, in ascending order, of the binary
// cross entropy of labels [n] (0 or 1) under logits [n], and, unless dLogits is
// nil, overwrites dLogits [n] with (sigmoid(logit) - label) * scale. dLogits and
// logits may not be the same.
//
// The loss max(z,0) - z*y + log(1+exp(-|z|)) overflows for no logit; a logit
// that is not a number makes the sum not a number.
func BCEWithLogits(logits, labels, dLogits []float32, scale float32) (lossSum float64) {
	return WeightedBCE(logits, labels, nil, dLogits, scale)
}

// WeightedBCE is BCEWithLogits with every sample's loss, and so its gradient,
// multiplied by its weight; without weights all weigh 1.
func WeightedBCE(logits, labels, weights, dLogits []float32, scale float32) (lossSum float64) {
	check("labels", len(labels), len(logits))
	if len(weights) > 0 {
		check("weights", len(weights), len(logits))
	}
	if dLogits != nil {
		check("gradient of the logits", len(dLogits), len(logits))
		kernel.SigmoidSlice(dLogits, logits)
		for i, y := range labels {
			dLogits[i] = (dLogits[i] - y) * scale
		}
		for i, w := range weights {
			dLogits[i] *= w
		}
	}
	for i, z := range logits {
		magnitude, positive := z, z
		if z < 0 {
			magnitude, positive = -z, 0
		}
		loss := positive - float32(z*labels[i]) + kernel.Log1p(kernel.Exp(-magnitude))
		if len(weights) > 0 {
			loss *= weights[i]
		}
		lossSum += float64(loss)
	}
	return lossSum
}
