package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A client that does not read is given up, and with it what it was to get.
func TestClientsThatDoNotRead(t *testing.T) {
	const piece = 4 << 10
	given := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := newAnswer(w, 50*time.Millisecond)
		defer a.bound(0)
		var err error
		for n := 0; err == nil && n < 64<<20; n += piece { // more than buffers on the way hold
			_, err = a.Write(make([]byte, piece))
		}
		given <- err
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-given; err == nil {
		t.Error("everything was written to a client that read nothing")
	}
}
