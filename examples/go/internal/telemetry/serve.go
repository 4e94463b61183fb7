package telemetry

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os/signal"
	"syscall"
)

// Serve serves until SIGTERM, and answers what is in flight before it returns.
func Serve(address string, handler http.Handler) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: address, Handler: handler}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	if err := server.Shutdown(context.Background()); err != nil {
		log.Print(err)
	}
}
