import advisoryLock = require("./index.js")

export import LockName = advisoryLock.LockName
export import CreateMutex = advisoryLock.CreateMutex
export import AdvisoryMutex = advisoryLock.AdvisoryMutex
export const strToKey: typeof advisoryLock.strToKey
export const mutexUrl: typeof advisoryLock.mutexUrl
export default advisoryLock
