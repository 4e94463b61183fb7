// The shop: takes an order, and asks the stock for it.
package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"tracecheck/examples/go/internal/telemetry"
)

var client = http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport), Timeout: 3 * time.Second}

func main() {
	defer telemetry.Start(context.Background())()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	// Inside of the mux, which has set the route by then; around it, spans have none.
	mux.Handle("GET /orders/{order}", otelhttp.NewHandler(http.HandlerFunc(order), "order"))
	telemetry.Serve(os.Getenv("LISTEN"), mux)
}

func order(w http.ResponseWriter, r *http.Request) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, os.Getenv("STOCK_URL")+r.URL.Path, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer, err := client.Do(request)
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		http.Error(w, "the stock does not answer", http.StatusGatewayTimeout)
		return
	case err != nil:
		http.Error(w, "the stock cannot be reached", http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		http.Error(w, "the stock failed", http.StatusBadGateway)
		return
	}
	io.Copy(w, answer.Body)
}
