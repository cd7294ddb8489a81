import lock = require("./index.js")

export import RetryOptions = lock.RetryOptions
export import LockOptions = lock.LockOptions
export import UnlockOptions = lock.UnlockOptions
export import CheckOptions = lock.CheckOptions
declare const unlock: typeof lock.unlock
declare const check: typeof lock.check
declare const lockSync: typeof lock.lockSync
declare const unlockSync: typeof lock.unlockSync
declare const checkSync: typeof lock.checkSync
export { lock, unlock, check, lockSync, unlockSync, checkSync }
export default lock
