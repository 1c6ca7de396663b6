// The client code of "WebSocket Error Handling", section 5, "Client Handling Example (JavaScript)": whole, as printed.

socket.onmessage = (event) => {
const msg = JSON.parse(event.data);
if (msg.type === "error") {
console.error(`[WebSocket Error] ${msg.data.code}: ${msg.data.message}`);
alert("Something went wrong: " + msg.data.message);
}
};
socket.onclose = (event) => {
if (event.code === 4003) {
alert("You were disconnected due to authentication failure.");
}
};
