// A mutex is not re-entrant: who asks again for what it holds waits for itself. With detectDeadlocks it is told instead.
//
//     node examples/deadlock.mjs
import Mutex from "ipc-mutex"

const mutex = new Mutex("spm:deadlock", { detectDeadlocks: true })
await mutex.open()

async function inner () {
    await mutex.withLock(() => console.log("never here"))
}

await mutex.withLock(async () => {
    await inner().catch((error) => console.log(error.code, "-", error.message))
})
await mutex.close()

// Prints:
//   ERR_DEADLOCK - lock "deadlock" is held by the caller itself, which acquired it at … acquiring it again at … would wait for ever
