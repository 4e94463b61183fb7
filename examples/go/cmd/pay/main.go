// Payments over gRPC: charges for an order.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tracecheck/examples/go/internal/payments"
	"tracecheck/examples/go/internal/telemetry"
)

type bank struct{}

func (bank) Pay(_ context.Context, order *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	if order.Value == "declined" {
		return nil, status.Error(codes.Unavailable, "the bank is not there")
	}
	return order, nil
}

func main() {
	defer telemetry.Start(context.Background())()
	listener, err := net.Listen("tcp", os.Getenv("LISTEN"))
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.StatsHandler(otelgrpc.NewServerHandler()))
	payments.Register(server, bank{})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, server.GracefulStop)
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
