// An application's day with the OpenTelemetry SDK for Go: one order and one
// probe, then a clean end. The argument chooses the protocol.
package main

import (
	"context"
	"log"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	exporter, err := export(ctx, os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	shop := resource.NewSchemaless(attribute.String("service.name", "shop"))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(shop))
	tracer := provider.Tracer("orders")
	_, order := tracer.Start(ctx, "POST /orders", trace.WithSpanKind(trace.SpanKindServer))
	order.SetAttributes(attribute.String("user.email", "ada@example.org"))
	order.AddEvent("mail", trace.WithAttributes(attribute.String("message", "sent to ada@example.org")))
	order.SetStatus(codes.Error, "the card was refused")
	order.End()
	_, probe := tracer.Start(ctx, "GET /healthz", trace.WithSpanKind(trace.SpanKindServer))
	probe.End()
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
}

func export(ctx context.Context, protocol, endpoint string) (sdk.SpanExporter, error) {
	switch protocol {
	case "grpc":
		return otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(endpoint))
	case "grpc-gzip":
		return otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(endpoint),
			otlptracegrpc.WithCompressor("gzip"))
	case "http-gzip":
		return otlptracehttp.New(ctx, otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(endpoint),
			otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	default:
		return otlptracehttp.New(ctx, otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(endpoint))
	}
}
