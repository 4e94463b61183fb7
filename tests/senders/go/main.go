// Command send ends spans with the official OpenTelemetry SDK, through one exporter of each kind that it is given, its defaults
// untouched.
//
// The first line of standard input says what is to be done, as JSON; `go` begins, `stop` has the SDK shut down, and the end of the
// input ends the program at once.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type plan struct {
	Cases []struct {
		Name     string
		Protocol string
		Endpoint string
	}
	Spans   int
	Seconds float64
}

func exporter(ctx context.Context, protocol, endpoint string) (*otlptrace.Exporter, error) {
	if protocol == "grpc" {
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint+"/v1/traces"))
}

func endSpans(tracers []trace.Tracer, plan plan) {
	ctx, begun := context.Background(), time.Now()
	for number := range plan.Spans {
		due := plan.Seconds * float64(number) / float64(plan.Spans)
		time.Sleep(time.Until(begun.Add(time.Duration(due * float64(time.Second)))))
		for _, tracer := range tracers {
			_, span := tracer.Start(ctx, "work")
			span.End()
		}
	}
}

func main() {
	ctx := context.Background()
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	input.Scan()
	var todo plan
	if err := json.Unmarshal(input.Bytes(), &todo); err != nil {
		log.Fatalf("the plan: %v", err)
	}
	var providers []*sdktrace.TracerProvider
	fmt.Println("ready")
	for input.Scan() {
		switch input.Text() {
		case "go":
			// Not before, so that the timers of all batch processors begin with the spans.
			var tracers []trace.Tracer
			for _, one := range todo.Cases {
				exporter, err := exporter(ctx, one.Protocol, one.Endpoint)
				if err != nil {
					log.Fatalf("%s: %v", one.Name, err)
				}
				named := resource.NewSchemaless(attribute.String("service.name", one.Name))
				provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(named))
				providers = append(providers, provider)
				tracers = append(tracers, provider.Tracer("tests/senders"))
			}
			go endSpans(tracers, todo)
		case "stop":
			var ends sync.WaitGroup
			for _, provider := range providers {
				ends.Go(func() {
					if err := provider.Shutdown(ctx); err != nil {
						log.Print(err)
					}
				})
			}
			ends.Wait()
			return
		}
	}
}
