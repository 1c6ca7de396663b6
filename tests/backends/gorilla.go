// A back end with gin and gorilla/websocket, as its authors write one: it knows nothing of what stands in front of it.
// Usage: gorilla PORT
package main

import (
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{EnableCompression: true}

// The refusal of "How to properly refuse websocket upgrade request?".
func content(ctx *gin.Context) {
	contentId := ctx.Query("contentId")
	exists := contentId == "42"
	if contentId == "" || !exists {
		ctx.String(http.StatusBadRequest, "invalid or non-existing contentId")
		return
	}
	c, err := upgrader.Upgrade(ctx.Writer, ctx.Request, nil)
	if err != nil {
		return
	}
	defer c.Close()
	echo(c)
}

// The answer to it: upgrade, say why, close.
func answered(ctx *gin.Context) {
	c, err := upgrader.Upgrade(ctx.Writer, ctx.Request, nil)
	if err != nil {
		return
	}
	defer c.Close()
	c.WriteMessage(websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "bad content id or not exist"))
	c.ReadMessage()
}

func echo(c *websocket.Conn) {
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		switch string(message) {
		case "panic":
			panic("a handler panicked")
		case "exit":
			os.Exit(3)
		}
		if c.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(gin.Recovery())
	router.GET("/content", content)
	router.GET("/answered", answered)
	router.GET("/json", func(ctx *gin.Context) {
		ctx.JSON(http.StatusForbidden, gin.H{"error": "members only"})
	})
	if err := router.Run("127.0.0.1:" + os.Args[1]); err != nil {
		panic(err)
	}
}
