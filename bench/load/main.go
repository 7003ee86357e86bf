// Closed-loop load for the ledger: each caller sends its next transfer when the last one was answered.
//
// A client of its own because it shares the machine with what it measures: requests are encoded by hand and answers are
// looked at only as far as needed, so that a call costs the client little. bench/node-client.ts has the same flags and
// the same output, for machines without Go.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A caller makes one transfer; the error says why it was not posted.
type caller interface {
	transfer(debit, credit, idempotencyKey string) error
}

type report struct {
	// Transfers answered as posted, the warm-up included.
	Acknowledged  int64    `json:"acknowledged"`
	Failed        int64    `json:"failed"`
	FirstFailures []string `json:"first_failures"`
}

const failuresShown = 3

func main() {
	protocol := flag.String("protocol", "grpc", "grpc or rest")
	address := flag.String("address", "", "host:port")
	accountsFile := flag.String("accounts", "", "file with one account id per line")
	currency := flag.String("currency", "EUR", "of all accounts")
	callers := flag.Int("callers", 64, "how many at the same time")
	warmUpMs := flag.Int("warm-up-ms", 1000, "not measured")
	measureMs := flag.Int("measure-ms", 10_000, "measured")
	latenciesFile := flag.String("latencies", "", "file for the measured latencies: microseconds, uint32 little-endian")
	flag.Parse()

	accounts, err := readLines(*accountsFile)
	exitOn(err)
	if len(accounts) < 2 {
		exitOn(fmt.Errorf("%s has fewer than two accounts", *accountsFile))
	}
	opened, closeAll, err := openCallers(*protocol, *address, *currency, *callers)
	exitOn(err)
	defer closeAll()

	started := time.Now()
	measureFrom := started.Add(time.Duration(*warmUpMs) * time.Millisecond)
	end := measureFrom.Add(time.Duration(*measureMs) * time.Millisecond)
	var result report
	var acknowledged, failed atomic.Int64
	var lock sync.Mutex
	var latencies []uint32
	var running sync.WaitGroup
	for _, c := range opened {
		running.Add(1)
		go func() {
			defer running.Done()
			var own []uint32
			for time.Now().Before(end) {
				debit := rand.IntN(len(accounts))
				credit := rand.IntN(len(accounts) - 1)
				if credit >= debit {
					credit++
				}
				key := newKey()
				sent := time.Now()
				err := c.transfer(accounts[debit], accounts[credit], key)
				answered := time.Now()
				if err != nil {
					if failed.Add(1) <= failuresShown {
						lock.Lock()
						result.FirstFailures = append(result.FirstFailures, err.Error())
						lock.Unlock()
					}
					continue
				}
				acknowledged.Add(1)
				if answered.After(measureFrom) && answered.Before(end) {
					own = append(own, uint32(answered.Sub(sent).Microseconds()))
				}
			}
			lock.Lock()
			latencies = append(latencies, own...)
			lock.Unlock()
		}()
	}
	running.Wait()

	result.Acknowledged = acknowledged.Load()
	result.Failed = failed.Load()
	if *latenciesFile != "" {
		bytes := make([]byte, 0, 4*len(latencies))
		for _, latency := range latencies {
			bytes = binary.LittleEndian.AppendUint32(bytes, latency)
		}
		exitOn(os.WriteFile(*latenciesFile, bytes, 0o600))
	}
	exitOn(json.NewEncoder(os.Stdout).Encode(result))
}

func openCallers(protocol, address, currency string, count int) ([]caller, func(), error) {
	switch protocol {
	case "grpc":
		return openGrpcCallers(address, currency, count)
	case "rest":
		return openRestCallers(address, currency, count)
	}
	return nil, nil, fmt.Errorf("the protocol is grpc or rest, not %q", protocol)
}

// A random UUID, version 4, as clients choose them.
func newKey() string {
	high, low := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x",
		high>>32, high>>16&0xffff, high&0xfff, low>>48&0x3fff|0x8000, low&0xffffffffffff)
}

func readLines(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	return strings.Fields(string(text)), err
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
