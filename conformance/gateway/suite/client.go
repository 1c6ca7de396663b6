// One connection, and what became of it, as a line of JSON.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

type seen struct {
	Status   int      `json:"status,omitempty"`
	Code     int      `json:"code,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Error    string   `json:"error,omitempty"`
	Messages []string `json:"messages"`
}

func main() {
	result := seen{Messages: []string{}}
	defer func() { json.NewEncoder(os.Stdout).Encode(result) }()
	dialer := websocket.Dialer{HandshakeTimeout: 3 * time.Second}
	c, response, err := dialer.Dial(os.Args[1], http.Header{})
	if response != nil {
		result.Status = response.StatusCode
	}
	if err != nil {
		result.Error = err.Error()
		return
	}
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	for {
		_, message, err := c.ReadMessage()
		if err == nil {
			result.Messages = append(result.Messages, string(message))
			continue
		}
		if close, ok := err.(*websocket.CloseError); ok {
			result.Code, result.Reason = close.Code, close.Text
		} else {
			result.Error = err.Error()
		}
		return
	}
}
