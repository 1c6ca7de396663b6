// The client code of "How to properly refuse websocket upgrade request?" and of its answer, as printed. Where the print
// breaks off, what a reader would add stands behind `completed:`.

ws.onerror = function (evt) {
    // TOOD: handle error, (e.g print error msg?),
    /* completed: */ console.error("ERROR"); // "It does print the "ERROR" on refuse"
/* completed: */ };

ws.onclose = function (evt) {
    if (evt.code == 1008) {  // 1008 is policy violation
        /* completed: */ alert(evt.reason); // "show tip to frontend UI with reason of refuse"
    /* completed: */ }
/* completed: */ };
