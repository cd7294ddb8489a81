// A hold that ends without release() is told in three ways: by lock.signal, by the event "lost" and by release().
//
//     node examples/loss.mjs [rpm+redis://localhost/loss]                (a Redis without password)
import Mutex from "ipc-mutex"
import { once } from "node:events"
import { connect } from "node:net"
import { setTimeout as work } from "node:timers/promises"

const url = new URL(process.argv[2] ?? "rpm+redis://localhost/loss")

/** Somebody deletes the lock's key by hand. */
async function accident () {
    const socket = connect(Number(url.port || 6379), url.hostname)
    socket.end(`DEL ${url.pathname.slice(1)}/lock.IPC-Mutex-rpm\r\n`).resume()
    await once(socket, "close")
}

const mutex = new Mutex(`${url.href}?ttl=1`)
mutex.on("lost", (error, hold) => console.log("event:", error.code, hold.id))
await mutex.open()
const lock = await mutex.lock()
await accident()

try {
    // Pass the signal on to what you do under the lock: fetch(), timers, streams and child processes take one.
    await work(60_000, null, { signal: lock.signal })
}
catch (error) {
    console.log("work ended early:", error.cause.code)
}
await lock.release().catch((error) => console.log("release:", error.code))
await mutex.close()

// Prints:
//   event: ERR_LOCK_LOST loss
//   work ended early: ERR_LOCK_LOST
//   release: ERR_LOCK_LOST
