// The typings as an ECMAScript module sees them.
import Mutex, { LockManager, Mutex as NamedMutex, MutexError } from "ipc-mutex"
import { subscribe } from "node:diagnostics_channel"
import type { AcquireMessage, AcquireOptions, HoldMessage, Lock, LockInfo, LockManagerSnapshot, LockSet, MutexOptions } from "ipc-mutex"

const options: MutexOptions = { label: "nightly" }
const mutex: Mutex = new Mutex("spm:foo", options)
const same: NamedMutex = mutex
const id: string = same.id

const acquire: AcquireOptions = { shared: true, timeout: 100 }
const done: void = await mutex.acquire(acquire)
const got: boolean = await mutex.tryAcquire({ shared: false })

const lock: Lock = await mutex.lock()
const signal: AbortSignal = lock.signal
const released: void = await lock.release()

const answer: number = await mutex.withLock((held) => Number(held.token))
const text: string = await mutex.withLock({ timeout: 10 }, async (held: Lock) => held.id)

const { held, pending } = await mutex.query()
const first: LockInfo | undefined = held[0] ?? pending[0]
const since: Date | undefined = first?.since
const token: bigint | undefined = first?.token

mutex.on("lost", (error, hold) => {
    const known: MutexError = error
    const mode: "exclusive" | "shared" = hold.mode
    void [ known, mode ]
})
subscribe("tracing:ipc-mutex:hold:asyncEnd", (message) => {
    const { id: name, holdTime, token: granted, error: loss } = message as HoldMessage
    void [ name satisfies string, holdTime satisfies number | undefined, granted satisfies bigint | undefined, loss?.code ]
})
subscribe("tracing:ipc-mutex:acquire:asyncEnd", (message) => {
    const { waitTime, error: refusal } = message as AcquireMessage
    void [ waitTime satisfies number | undefined, refusal satisfies unknown ]
})
mutex.once("acquire", ({ token: granted }) => void (granted satisfies bigint | undefined))
mutex.on("reconnect", () => undefined).on("disconnect", () => undefined).off("release", () => undefined)
// @ts-expect-error: there is no such event
mutex.on("loss", () => undefined)

{
    await using scoped = await mutex.lock()
    await using whole = mutex
    void scoped
    void whole
}

const error: Error = new MutexError("ERR_TIMEOUT", "too late")

// @ts-expect-error: there is no such code
new MutexError("ERR_TIME", "too late")
// @ts-expect-error: try does not wait
await mutex.tryAcquire({ timeout: 5 })
// @ts-expect-error: the wait is counted in milliseconds
await mutex.acquire({ timeout: "1s" })
// @ts-expect-error: a token is only read
lock.token = 1n
// @ts-expect-error: a function is needed
await mutex.withLock({ timeout: 1 })

void [ id, done, got, signal, released, answer, text, since, token, error ]

const locks: LockManager = new LockManager("spm:", { label: "names" })
const byName: Lock = await locks.lock("user:42", acquire)
const itsName: string = byName.name
const perhaps: Lock | null = await locks.tryLock("user:42", { shared: true })
const sum: number = await locks.withLock("user:42", (held) => Number(held.token))
const word: string = await locks.withLock("user:42", { timeout: 10 }, async (held: Lock) => held.name)
locks.on("lost", (error, { name }) => void [ error satisfies MutexError, name satisfies string | undefined ])
const closed: void = await locks.close()
const both: LockSet = await locks.lock([ "a", "b" ], { timeout: 5, steal: false })
const bothTokens: ReadonlyMap<string, bigint> = both.tokens
const bothOrNone: LockSet | null = await locks.tryLock([ "a", "b" ])
const names: readonly string[] = await locks.withLock([ "a", "b" ], (held) => held.names)
const requested: string = await locks.request("a", (held) => held.name)
const available: string | undefined = await locks.request("a", { ifAvailable: true }, (held) => held?.name)
const shared: string = await locks.request("a", { mode: "shared", signal }, (held) => held.mode)
const seen: LockManagerSnapshot = await locks.query()
const client: string | undefined = seen.held[0]?.clientId
// @ts-expect-error: there is no such mode
await locks.request("a", { mode: "read" }, () => {})
// @ts-expect-error: the lock may be null
await locks.request("a", { ifAvailable: true }, (held) => held.name)
void [ itsName, perhaps, sum, word, closed, bothTokens, bothOrNone, names, requested, available, shared, client ]
