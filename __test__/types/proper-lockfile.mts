// Compiled, never run: the typings of ipc-mutex/proper-lockfile, as a module sees them.
import lockfile, { check, checkSync, lock, lockSync, unlock, unlockSync, type LockOptions } from "ipc-mutex/proper-lockfile"

const options: LockOptions = { stale: 5000, update: 1000, realpath: false, lockfilePath: "x.lock", retries: { retries: 3, factor: 1 }, onCompromised: (error) => error.code }
const release: () => Promise<void> = await lock("a", options)
await release()
const again: () => void = lockSync("a", { stale: 2000 })
again()
const is: boolean = await check("a") && checkSync("a", { realpath: false })
const nothing: void = await unlock("a")
unlockSync("a")
const same: typeof lock = lockfile
const release2: () => Promise<void> = await lockfile("a", { retries: 5 })
const release3: () => Promise<void> = await lockfile.lock("a")
// @ts-expect-error a path is a text
lock(5)
// @ts-expect-error unknown option
lock("a", { timeot: 1 })
export { is, nothing, same, release2, release3 }
