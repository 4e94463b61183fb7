package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// collector is what this program understands of an OpenTelemetry Collector's config: where it listens, where it sends, and
// with which key. All else is taken as the exporter's default.
type collector struct {
	Receivers map[string]struct {
		Protocols map[string]struct {
			Endpoint string `yaml:"endpoint"`
		} `yaml:"protocols"`
	} `yaml:"receivers"`
	Exporters map[string]struct {
		Hostname string `yaml:"hostname"`
		API      struct {
			Key string `yaml:"key"`
		} `yaml:"api"`
		Traces struct {
			Endpoint string `yaml:"endpoint"`
		} `yaml:"traces"`
	} `yaml:"exporters"`
}

var variable = regexp.MustCompile(`\$\{env:([A-Za-z0-9_]+)\}`)

// read takes over what the configs say, a later one before an earlier one.
func (o *options) read(configs []string) error {
	for _, name := range configs {
		path := strings.TrimSuffix(strings.TrimPrefix(name, "file:"), "\n")
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		expanded := variable.ReplaceAllStringFunc(string(text), func(found string) string {
			return os.Getenv(variable.FindStringSubmatch(found)[1])
		})
		var c collector
		if err := yaml.Unmarshal([]byte(expanded), &c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, receiver := range c.Receivers {
			set(&o.grpc, receiver.Protocols["grpc"].Endpoint)
			set(&o.http, receiver.Protocols["http"].Endpoint)
		}
		for id, exporter := range c.Exporters {
			if kind, _, _ := strings.Cut(id, "/"); kind != "datadog" {
				return fmt.Errorf("%s: exporter %q: there is `datadog` alone", path, id)
			}
			set(&o.hostname, exporter.Hostname)
			set(&o.key, exporter.API.Key)
			set(&o.intake, exporter.Traces.Endpoint)
		}
	}
	return nil
}

func set(to *string, text string) {
	if text != "" {
		*to = text
	}
}
