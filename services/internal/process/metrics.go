package process

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry holds what is measured of every service: the Go runtime, the operating system's process, the build and
// the conditions of its health.
func newRegistry(service string, health *Health) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(service),
		health,
	)
	return registry
}

// buildInfo is the constant 1, with the build in its labels.
func buildInfo(service string) prometheus.Collector {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "verdict_build_info",
		Help: "1; the labels say what was built.",
		ConstLabels: prometheus.Labels{
			"service": service, "version": version, "revision": revision, "go": runtime.Version(),
		},
	})
	build.Set(1)
	return build
}
