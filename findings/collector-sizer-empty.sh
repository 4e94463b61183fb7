#!/usr/bin/env bash
# The OpenTelemetry Collector writes an exporter's `sending_queue::sizer` out as an empty map, and reads that back as no sizer at all.
#
# Version: go.opentelemetry.io/collector/exporter/exporterhelper v0.165.0, go.opentelemetry.io/collector/confmap v1.71.0
# Expected: a config that the Collector writes (`print-config` does it this way) can be read again, and means the same: `bytes`.
# Seen: `MarshalText` is a method of the pointer, and the setting is held by value, so the encoder sees a struct without exported
#   fields: `sizer: {}`. Read again, it is accepted, the sizer is empty (not even the default, `requests`), and `Validate` passes.
# Why it matters: what `print-config` shows of a queue that is bounded by bytes does not say so, and a tool that compares or stores
#   effective configs loses the unit of `queue_size` without any error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
cd "$dir"
cat >go.mod <<'MOD'
module finding

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"

	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

func main() {
	asked := exporterhelper.NewDefaultQueueConfig()
	asked.Sizer = exporterhelper.RequestSizerTypeBytes
	written := confmap.New()
	if err := written.Marshal(asked); err != nil {
		panic(err)
	}
	var read exporterhelper.QueueBatchConfig
	err := written.Unmarshal(&read)
	fmt.Printf("%s, written as %v, read with error %v as %q, validated with error %v\n",
		asked.Sizer.String(), written.Get("sizer"), err, read.Sizer.String(), read.Validate())
}
GO
go get go.opentelemetry.io/collector/exporter/exporterhelper@v0.165.0 go.opentelemetry.io/collector/confmap@v1.71.0 2>/dev/null
go mod tidy 2>/dev/null
seen=$(go run .)
echo "$seen"
expected='bytes, written as map[], read with error <nil> as "", validated with error <nil>'
[ "$seen" = "$expected" ] || { echo "no longer as described: expected $expected" >&2; exit 1; }
