import advisoryLock = require("./v2.js")

export import LockName = advisoryLock.LockName
export import CreateMutex = advisoryLock.CreateMutex
export import AdvisoryMutex = advisoryLock.AdvisoryMutex
export import UnlockFunction = advisoryLock.UnlockFunction
export const strToKey: typeof advisoryLock.strToKey
export const mutexUrl: typeof advisoryLock.mutexUrl
export default advisoryLock
