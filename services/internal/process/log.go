package process

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger logs to w, each line with service=… . Level is debug, info, warn or error, format text or json; empty
// ones are info and text.
func NewLogger(w io.Writer, service, level, format string) (*slog.Logger, error) {
	var least slog.Level
	if level != "" {
		if err := least.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
		}
	}
	options := &slog.HandlerOptions{Level: least}
	var handler slog.Handler
	switch format {
	case "", "text":
		handler = slog.NewTextHandler(w, options)
	case "json":
		handler = slog.NewJSONHandler(w, options)
	default:
		return nil, fmt.Errorf("log format %q: want text or json", format)
	}
	return slog.New(handler).With(slog.String("service", service)), nil
}
