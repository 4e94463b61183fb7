// Package telemetry sets OpenTelemetry up by its standard variables.
package telemetry

import (
	"context"
	"log"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Start begins to trace. What it gives back sends what is left, and is to be called before the program ends.
func Start(ctx context.Context) func() {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	// Without this, Go's SDK neither reads nor sends any context.
	otel.SetTextMapPropagator(autoprop.NewTextMapPropagator())
	return func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
	}
}
