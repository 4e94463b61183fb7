#!/usr/bin/env bash
# A number in a config of the OpenTelemetry Collector that does not fit its setting is replaced by what is left of its low bits.
#
# Version: go.opentelemetry.io/collector/processor/batchprocessor v0.165.0, go.opentelemetry.io/collector/confmap v1.71.0
# Expected: a value outside a setting's range is an error that names the key, as a negative one is.
# Seen: `send_batch_max_size` has 32 bits. 4294975490, a size that is meant as "no limit to speak of", is read as 8194 without an
#   error, and `Validate` passes. `print-config` shows the 8194; nothing else does.
# Why it matters: a pipeline's real limit can be any small number, with requests cut far more often than was asked for, and each
#   check of the config passes.
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
	"go.opentelemetry.io/collector/processor/batchprocessor"
)

func main() {
	config := batchprocessor.NewFactory().CreateDefaultConfig().(*batchprocessor.Config)
	given := confmap.NewFromStringMap(map[string]any{"send_batch_size": 8192, "send_batch_max_size": 4294975490})
	err := given.Unmarshal(config)
	fmt.Printf("read with error %v as %d, validated with error %v\n", err, config.SendBatchMaxSize, config.Validate())
}
GO
go get go.opentelemetry.io/collector/processor/batchprocessor@v0.165.0 go.opentelemetry.io/collector/confmap@v1.71.0 2>/dev/null
go mod tidy 2>/dev/null
seen=$(go run .)
echo "$seen"
expected='read with error <nil> as 8194, validated with error <nil>'
[ "$seen" = "$expected" ] || { echo "no longer as described: expected $expected" >&2; exit 1; }
