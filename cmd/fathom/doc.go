// Command fathom trains click-through-rate models on a cluster of replicated
// parameter servers. This package is wiring only: one file per subcommand, each
// reads its flags, builds the components of the other packages and waits.
//
// What every command shares:
//
//   - exit codes (errors.go): 0 done, 1 failed, 64 the command line, the job or
//     the data is at fault, 130 interrupted;
//   - errors are lines "fathom: ..." on standard error, never a usage dump;
//   - log lines go to standard error, results to standard output;
//   - every long-running process serves metrics, health and its newest log
//     lines over HTTP (endpoint.go).
package main
