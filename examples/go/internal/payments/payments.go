// Package payments is a gRPC service of one method, `shop.Payments/Pay`, whose messages are texts. A service of your own
// has this from `protoc`.
package payments

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/shop.Payments/Pay"

// Server charges for an order.
type Server interface {
	Pay(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

// Pay has the server at the other end charge for an order.
func Pay(ctx context.Context, to grpc.ClientConnInterface, order *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	payment := new(wrapperspb.StringValue)
	return payment, to.Invoke(ctx, method, order, payment)
}

// Register has a gRPC server serve the service.
func Register(server grpc.ServiceRegistrar, payments Server) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "shop.Payments",
		HandlerType: (*Server)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Pay", Handler: pay}},
	}, payments)
}

func pay(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	order := new(wrapperspb.StringValue)
	if err := decode(order); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, order any) (any, error) {
		return srv.(Server).Pay(ctx, order.(*wrapperspb.StringValue))
	}
	if interceptor == nil {
		return handle(ctx, order)
	}
	return interceptor(ctx, order, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, handle)
}
