// An AbortSignal ends a wait. The call rejects with the signal's reason, as Node's own functions do.
//
//     node examples/abort.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:abort")
await mutex.open()
const lock = await mutex.lock()

const shutdown = new AbortController()
const waiting = mutex.lock({ signal: shutdown.signal })
shutdown.abort(new Error("the program is shutting down"))
try {
    await waiting
}
catch (error) {
    console.log("gave up:", error.message)
}

await lock.release()                              // a hold is not affected by the signal
await mutex.close()

// Prints:
//   gave up: the program is shutting down
