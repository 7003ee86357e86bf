// Closed-loop load through REST: each caller sends its next transfer when the last one was answered, and the answers of
// those under way at the end are waited for, so that what was acknowledged is known exactly.
//
// A client of its own because it shares the machine with what it measures: answers are looked at only as far as needed,
// so that a call costs the client little. bench/node-client.ts has the same flags and the same output, for machines
// without Go.
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

// Who pays whom.
type pair struct {
	debit, credit string
}

type report struct {
	// Transfers answered as posted, the warm-up included.
	Acknowledged  int64    `json:"acknowledged"`
	Failed        int64    `json:"failed"`
	FirstFailures []string `json:"first_failures"`
}

const failuresShown = 3

func main() {
	address := flag.String("address", "", "host:port")
	pairsFile := flag.String("pairs", "", "file with the accounts of a transfer per line: debit, space, credit; used in turn")
	tokenFile := flag.String("token-file", "", "file with the access token")
	currency := flag.String("currency", "EUR", "of all accounts")
	callers := flag.Int("callers", 64, "how many at the same time")
	warmUpMs := flag.Int("warm-up-ms", 1000, "not measured")
	measureMs := flag.Int("measure-ms", 10_000, "measured")
	latenciesFile := flag.String("latencies", "", "file for the measured latencies: microseconds, uint32 little-endian")
	flag.Parse()

	pairs, err := readPairs(*pairsFile)
	exitOn(err)
	token, err := os.ReadFile(*tokenFile)
	exitOn(err)
	opened, closeAll, err := openCallers(*address, string(token), *currency, *callers)
	exitOn(err)
	defer closeAll()

	started := time.Now()
	measureFrom := started.Add(time.Duration(*warmUpMs) * time.Millisecond)
	end := measureFrom.Add(time.Duration(*measureMs) * time.Millisecond)
	var result report
	var acknowledged, failed atomic.Int64
	var turn atomic.Uint64
	var lock sync.Mutex
	var latencies []uint32
	var running sync.WaitGroup
	for _, c := range opened {
		running.Add(1)
		go func() {
			defer running.Done()
			var own []uint32
			for time.Now().Before(end) {
				next := pairs[(turn.Add(1)-1)%uint64(len(pairs))]
				key := newKey()
				sent := time.Now()
				err := c.transfer(next, key)
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

// A random UUID, version 4, as clients choose them.
func newKey() string {
	high, low := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x",
		high>>32, high>>16&0xffff, high&0xfff, low>>48&0x3fff|0x8000, low&0xffffffffffff)
}

func readPairs(file string) ([]pair, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(string(text))
	if len(ids) == 0 || len(ids)%2 != 0 {
		return nil, fmt.Errorf("%s holds %d account ids, which are no pairs", file, len(ids))
	}
	pairs := make([]pair, len(ids)/2)
	for index := range pairs {
		pairs[index] = pair{debit: ids[2*index], credit: ids[2*index+1]}
	}
	return pairs, nil
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
