// The stock: has payments charge for an order.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tracecheck/examples/go/internal/payments"
	"tracecheck/examples/go/internal/telemetry"
)

func main() {
	defer telemetry.Start(context.Background())()
	connection, err := grpc.NewClient(os.Getenv("PAY_ADDRESS"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	order := func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 1500*time.Millisecond)
		defer cancel()
		payment, err := payments.Pay(ctx, connection, wrapperspb.String(r.PathValue("order")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Write([]byte(payment.Value))
	}
	mux.Handle("GET /orders/{order}", otelhttp.NewHandler(http.HandlerFunc(order), "order"))
	telemetry.Serve(os.Getenv("LISTEN"), mux)
}
