// A gRPC client that costs little: it sends the bytes of one file again and again and does not parse responses.
//
//	grpc_client -target 127.0.0.1:8500 -method /inference.GRPCInferenceService/ModelInfer -body FILE \
//	    -connections 8 -seconds 5             a closed loop, one call at a time on each connection
//	    -connections 8 -seconds 5 -rate 200   an open loop: Poisson arrivals, each call at its time
//
// It prints one line of JSON. In an open loop, latencies count from the time at which a call was due, so a late
// generator or a busy server makes them longer, never fewer; `lag_p99_us` is the generator's own share.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

const (
	maxInFlight = 4096 // of an open loop; more count as failed
	maxMessage  = 64 << 20
	callTimeout = 30 * time.Second
)

// raw passes messages through as bytes.
type raw struct{}

func (raw) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" } // the content type stays application/grpc+proto

var _ encoding.CodecV2 = raw{}

// result is what one run measured; times are in microseconds.
type result struct {
	Requests int            `json:"requests"` // with a response of status OK
	Bad      int            `json:"bad"`
	Error    string         `json:"error"` // the first one
	Seconds  float64        `json:"seconds"`
	P50      float64        `json:"p50_us"`
	P99      float64        `json:"p99_us"`
	P999     float64        `json:"p999_us"`
	Max      float64        `json:"max_us"`
	LagP99   float64        `json:"lag_p99_us"`
	CPU      float64        `json:"cpu_s"` // this process's
	Bytes    int            `json:"response_bytes"`
	Models   map[string]int `json:"models"` // responses by the trailing metadata `seaway-model`
}

type recorder struct {
	sync.Mutex
	result
	times, lags []float64
}

func (r *recorder) add(took time.Duration, size int, model string, err error) {
	r.Lock()
	defer r.Unlock()
	if err != nil {
		r.Bad++
		if r.Error == "" {
			r.Error = err.Error()
		}
		return
	}
	r.times = append(r.times, float64(took)/float64(time.Microsecond))
	r.Bytes = size
	r.Models[model]++
}

func main() {
	target := flag.String("target", "", "HOST:PORT")
	method := flag.String("method", "", "/SERVICE/METHOD")
	body := flag.String("body", "", "a file with the request message")
	connections := flag.Int("connections", 1, "connections")
	seconds := flag.Float64("seconds", 5, "duration")
	rate := flag.Float64("rate", 0, "calls per second of an open loop; 0: a closed loop")
	seed := flag.Int64("seed", 1, "of the arrivals")
	flag.Parse()
	message, err := os.ReadFile(*body)
	check(err)
	clients := make([]*grpc.ClientConn, *connections)
	for i := range clients {
		clients[i], err = grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(maxMessage)))
		check(err)
		_, _, err = call(clients[i], *method, message) // connects
		check(err)
	}
	r := &recorder{result: result{Models: map[string]int{}}}
	began, cpu := time.Now(), cpuSeconds()
	length := time.Duration(*seconds * float64(time.Second))
	if *rate > 0 {
		open(clients, *method, message, length, *rate, *seed, r)
	} else {
		closed(clients, *method, message, length, r)
	}
	r.Seconds, r.CPU = time.Since(began).Seconds(), cpuSeconds()-cpu
	if *rate > 0 {
		r.Seconds = *seconds // the last responses arrive later
	}
	r.Requests = len(r.times)
	slices.Sort(r.times)
	slices.Sort(r.lags)
	r.P50, r.P99, r.P999, r.Max = at(r.times, 0.5), at(r.times, 0.99), at(r.times, 0.999), at(r.times, 1)
	r.LagP99 = at(r.lags, 0.99)
	check(json.NewEncoder(os.Stdout).Encode(r.result))
}

// closed keeps one call in flight on each connection.
func closed(clients []*grpc.ClientConn, method string, message []byte, length time.Duration, r *recorder) {
	var waiting sync.WaitGroup
	end := time.Now().Add(length)
	for _, client := range clients {
		waiting.Go(func() {
			for sent := time.Now(); sent.Before(end); {
				size, model, err := call(client, method, message)
				now := time.Now()
				r.add(now.Sub(sent), size, model, err)
				sent = now
			}
		})
	}
	waiting.Wait()
}

// open sends each call when it is due, whatever became of those before, over the connections in turn.
func open(clients []*grpc.ClientConn, method string, message []byte, length time.Duration, rate float64, seed int64,
	r *recorder) {
	runtime.LockOSThread() // Sleep in Go is exact to a millisecond, a thread's own to some ten microseconds
	var waiting sync.WaitGroup
	var inFlight atomic.Int64
	gaps, began, due := rand.New(rand.NewSource(seed)), time.Now(), time.Duration(0)
	for number := 0; ; number++ {
		due += time.Duration(gaps.ExpFloat64() / rate * float64(time.Second))
		if due > length {
			break
		}
		for left := due - time.Since(began); left > 0; left = due - time.Since(began) {
			pause := syscall.NsecToTimespec(int64(left))
			_ = syscall.Nanosleep(&pause, nil) // a signal may end it early
		}
		r.lags = append(r.lags, float64(time.Since(began)-due)/float64(time.Microsecond))
		if inFlight.Load() >= maxInFlight {
			r.add(0, 0, "", fmt.Errorf("%d calls in flight", maxInFlight))
			continue
		}
		inFlight.Add(1)
		client, dueAt := clients[number%len(clients)], began.Add(due)
		waiting.Go(func() {
			size, model, err := call(client, method, message)
			inFlight.Add(-1)
			r.add(time.Since(dueAt), size, model, err)
		})
	}
	waiting.Wait()
}

// call returns the response's size and the model that gave it.
func call(client *grpc.ClientConn, method string, message []byte) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var response []byte
	var trailer metadata.MD
	err := client.Invoke(ctx, method, &message, &response, grpc.Trailer(&trailer))
	model := ""
	if named := trailer.Get("seaway-model"); len(named) > 0 {
		model = named[0]
	}
	return len(response), model, err
}

// at is the value at or below which this share of the sorted values lies; 0 without any.
func at(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
