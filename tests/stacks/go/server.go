// A chat on gorilla/websocket with EnableCompression. What each room does: see ../README.md.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type member struct {
	conn    *websocket.Conn
	writing sync.Mutex
}

func (m *member) send(kind int, data []byte) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	return m.conn.WriteMessage(kind, data)
}

func (m *member) close(code int, reason string) {
	frame := websocket.FormatCloseMessage(code, reason)
	_ = m.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
}

type room struct {
	lock    sync.Mutex
	members map[*member]bool
}

func (r *room) add(m *member) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.members[m] = true
}

func (r *room) remove(m *member) {
	r.lock.Lock()
	defer r.lock.Unlock()
	delete(r.members, m)
}

func (r *room) tell(from *member, kind int, data []byte) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for other := range r.members {
		if other != from {
			_ = other.send(kind, data)
		}
	}
}

var (
	rooms    sync.Map
	upgrader = websocket.Upgrader{
		EnableCompression: true,
		CheckOrigin:       func(*http.Request) bool { return true },
	}
)

func chat(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if name == "refused" {
		http.Error(w, "refused", http.StatusForbidden)
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	m := &member{conn: conn}
	if name == "locked" {
		m.close(4401, "locked")
		readToEnd(conn)
		return
	}
	found, _ := rooms.LoadOrStore(name, &room{members: map[*member]bool{}})
	joined := found.(*room)
	joined.add(m)
	defer joined.remove(m)
	_ = m.send(websocket.TextMessage, hello(r))
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if code, ok := closeOrder(data); ok {
			m.close(code, "asked")
		} else {
			joined.tell(m, kind, data)
		}
	}
}

// hello says what the backend saw of the handshake; a header that was not there is null.
func hello(r *http.Request) []byte {
	seen := map[string]any{"extensions": nil, "user": nil}
	if value := r.Header.Get("Sec-WebSocket-Extensions"); value != "" {
		seen["extensions"] = value
	}
	if value := r.Header.Get("X-Auth-User"); value != "" {
		seen["user"] = value
	}
	text, _ := json.Marshal(seen)
	return text
}

func closeOrder(data []byte) (int, bool) {
	text := string(data)
	if !strings.HasPrefix(text, "!close ") {
		return 0, false
	}
	code, err := strconv.Atoi(strings.TrimPrefix(text, "!close "))
	return code, err == nil
}

func readToEnd(conn *websocket.Conn) {
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, http.HandlerFunc(chat)))
}
