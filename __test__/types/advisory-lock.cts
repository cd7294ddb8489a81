// Compiled, never run: the same as CommonJS sees it.
import advisoryLock = require("ipc-mutex/advisory-lock")
import advisoryLock2 = require("ipc-mutex/advisory-lock/v2")

const mutex: advisoryLock.AdvisoryMutex = advisoryLock("")("x")
const same: typeof advisoryLock = advisoryLock.default
const locked: Promise<boolean> = mutex.tryLock()
const unlock: Promise<advisoryLock2.UnlockFunction> = advisoryLock2.default("")([ 1, 2 ]).lock()
export { same, locked, unlock }
