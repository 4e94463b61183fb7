// Sends one trace of two spans with the official OpenTelemetry SDK, and prints its ids as JSON.
//
// Everything about where and how it is sent comes from the standard OTEL_* variables, as in a user's service. Like any
// service, it does not fail when its spans cannot be sent: the SDK logs that to stderr.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// The exporter that OTEL_EXPORTER_OTLP_PROTOCOL names.
func otlpExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: give grpc or http/protobuf", protocol)
	}
}

func main() {
	ctx := context.Background()
	exporter, err := otlpExporter(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	tracer := provider.Tracer("tests/sdk", trace.WithInstrumentationVersion("1.0"))

	ctx, parent := tracer.Start(ctx, "GET /orders/{id}",
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("http.request.method", "GET"),
			attribute.String("http.route", "/orders/{id}"),
			attribute.Int("http.response.status_code", 500),
		))
	_, child := tracer.Start(ctx, "load order", trace.WithAttributes(
		attribute.String("test.string", "größer als 1 €"),
		attribute.Bool("test.bool", true),
		attribute.Int("test.int", 42),
		attribute.Float64("test.double", 2.5),
		attribute.StringSlice("test.strings", []string{"a", "b"}),
		attribute.IntSlice("test.ints", []int{1, 2}),
	))
	missing := errors.New("no such order")
	child.RecordError(missing)
	child.SetStatus(codes.Error, missing.Error())
	child.End()
	parent.SetStatus(codes.Error, "")
	parent.End()

	// Sends what is left first. A failure to do so is the SDK's to log.
	if err := provider.Shutdown(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	ids := map[string]string{
		"trace_id": parent.SpanContext().TraceID().String(),
		"parent":   parent.SpanContext().SpanID().String(),
		"child":    child.SpanContext().SpanID().String(),
	}
	if err := json.NewEncoder(os.Stdout).Encode(ids); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
