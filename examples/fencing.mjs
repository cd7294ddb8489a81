// A guarded store refuses a writer that comes too late.
//
// The first writer takes the lock and is then frozen by the operating system, for longer than its lease lasts; a virtual machine
// that is moved does the same to it. The second writer gets the lock and writes. Then the first goes on where it was, with a
// write that it believes to be protected. No lock service can prevent that. The store can: it has seen a later token.
//
//     node examples/fencing.mjs [rpm+redis://localhost/fencing]          (not on Windows, which cannot freeze processes)
import Mutex from "ipc-mutex"
import { fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const [ url = "rpm+redis://localhost/fencing", name ] = process.argv.slice(2)

/** What is protected: in real life a table, with the token in a column. */
class Store {
    #value
    #token = 0n

    write (value, token) {
        if (token < this.#token)
            throw new Error("refused: a holder with a later token has written")
        this.#token = token
        this.#value = value
    }

    get value () {
        return this.#value
    }
}

/** A process that takes the lock, says so, writes when it is told to, and says how its release went. */
async function writer () {
    const mutex = new Mutex(url)
    await mutex.open()
    const lock = await mutex.lock()
    process.send("holding")
    await once(process, "message")
    // Too careless: it should look at lock.signal first. But even then the process could be frozen right after the look.
    process.send({ value: `written by the ${name}`, token: lock.token })
    const result = await lock.release().then(() => "fine", (error) => error.code)
    process.send({ result })
    await mutex.close()
    process.disconnect()
}

function start (which, leased) {
    const child = fork(fileURLToPath(import.meta.url), [ leased, which ], { serialization: "advanced" })
    child.once("exit", (code) => code === 0 || process.exit(1))
    const said = []
    const listeners = []
    child.on("message", (message) => listeners.length > 0 ? listeners.shift()(message) : said.push(message))
    child.next = () => new Promise((resolve) => said.length > 0 ? resolve(said.shift()) : listeners.push(resolve))
    return child
}

async function write (store, child, which) {
    child.send("write")
    const { value, token } = await child.next()
    try {
        store.write(value, token)
        console.log(`${which}: accepted`)
    }
    catch (error) {
        console.log(`${which}: ${error.message}`)
    }
    console.log(`${which}: release: ${(await child.next()).result}`)
}

if (name !== undefined)
    await writer()
else {
    const store = new Store()
    const first = start("first writer", `${url}?ttl=1`)
    await first.next()
    first.kill("SIGSTOP")
    const second = start("second writer", url)
    await second.next()                           // after a second, when the first one's lease is over
    await write(store, second, "second writer")
    first.kill("SIGCONT")
    await write(store, first, "first writer")
    console.log("the store has what was", store.value)
}

// Prints:
//   second writer: accepted
//   second writer: release: fine
//   first writer: refused: a holder with a later token has written
//   first writer: release: ERR_LOCK_LOST
//   the store has what was written by the second writer
