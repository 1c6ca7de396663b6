// gorilla/websocket, after its example "echo": `gorilla server PORT`, or `gorilla client URL COUNT` for URL/0, URL/1, ….
package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/gorilla/websocket"
)

func echo(c *websocket.Conn) {
	defer c.Close()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		if c.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func server(port string) error {
	upgrader := websocket.Upgrader{}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(64 * 1024)
		echo(c)
	})
	return http.ListenAndServe("127.0.0.1:"+port, nil)
}

func client(url string, count int) {
	var all sync.WaitGroup
	for n := 0; n < count; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			if c, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("%s/%d", url, n), nil); err == nil {
				echo(c)
			}
		}(n)
	}
	all.Wait()
}

func main() {
	if os.Args[1] == "server" {
		fmt.Fprintln(os.Stderr, server(os.Args[2]))
		os.Exit(1)
	}
	count, _ := strconv.Atoi(os.Args[3])
	client(os.Args[2], count)
}
