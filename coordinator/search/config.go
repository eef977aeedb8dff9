package search

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The strategies.
const (
	Evolution   = "evolution"
	Guided      = "guided"
	Random      = "random"
	Sensitivity = "sensitivity"
	Uniform     = "uniform"
	MDE         = "mde"
	ARD         = "ard"
	DNIS        = "dnis"
	AutoDim     = "autodim"
	PEP         = "pep"
	IHAS        = "ihas"
)

// Strategies lists the names of the strategies.
func Strategies() []string {
	return []string{Evolution, Guided, Random, Sensitivity, ARD, PEP, DNIS, AutoDim, IHAS, Uniform, MDE}
}

// Config chooses how to search. The zero value of a member means its default.
type Config struct {
	// Strategy is one of Strategies (default evolution).
	Strategy string
	Seed     uint64
	Budget   Budget
	// Tolerance is how much AUC may be given up for a smaller candidate.
	Tolerance float64
	// Pareto searches for a whole front of size and AUC.
	Pareto bool
	// Generations of Population candidates each, for evolution, guided and random
	// (default 30 of 20).
	Generations, Population int
	// Archive is how many of the best candidates parents are drawn from (default 15).
	Archive int
	// Mutation is the probability that a mutation draws a field anew (default 0.1).
	Mutation float64
	// Screen is the share of the validation rows that every candidate is scored on
	// first; only those that a strategy chooses by that are scored on all. 1 scores
	// all on all rows (default 0.25).
	Screen float64
	// SeedSensitivity begins evolution with the candidates of sensitivity.
	SeedSensitivity bool
	// SeedRelevance begins evolution with the candidates of ard.
	SeedRelevance bool
}

// WithDefaults fills in what was left at zero.
func (c Config) WithDefaults() Config {
	if c.Strategy == "" {
		c.Strategy = Evolution
	}
	if c.Generations == 0 {
		c.Generations = 30
	}
	if c.Population == 0 {
		c.Population = 20
	}
	if c.Archive == 0 {
		c.Archive = 15
	}
	if c.Mutation == 0 {
		c.Mutation = 0.1
	}
	if c.Screen == 0 {
		c.Screen = 0.25
	}
	return c
}

// Validate reports all faults of a configuration with its defaults, each with
// the name of the option in front.
func (c Config) Validate() error {
	var faults []error
	if !slices.Contains(Strategies(), c.Strategy) {
		faults = append(faults, fmt.Errorf("strategy: %q is none of %s", c.Strategy, strings.Join(Strategies(), ", ")))
	}
	if err := c.Budget.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("budget: %w", err))
	}
	for _, n := range []struct {
		name   string
		v, max int
	}{{"generations", c.Generations, 10_000}, {"population", c.Population, 1000}, {"archive", c.Archive, 1000}} {
		if n.v < 1 || n.v > n.max {
			faults = append(faults, fmt.Errorf("%s: %d is not in [1, %d]", n.name, n.v, n.max))
		}
	}
	if !(c.Mutation > 0 && c.Mutation <= 1) {
		faults = append(faults, fmt.Errorf("mutation: %v is not in (0, 1]", c.Mutation))
	}
	if !(c.Screen > 0 && c.Screen <= 1) {
		faults = append(faults, fmt.Errorf("screen: %v is not in (0, 1]", c.Screen))
	}
	if !(c.Tolerance >= 0 && c.Tolerance < 0.5) {
		faults = append(faults, fmt.Errorf("tolerance: %v is not in [0, 0.5)", c.Tolerance))
	}
	return errors.Join(faults...)
}
