-- Keeps holds and waiters alive, and moves the lock on if its holder has died.
--
-- KEYS     as in words.lua
-- ARGV     owner, ttl (ms), owner, ttl (ms), ...
-- returns  { microseconds of the server's clock, answer for the first owner, answer for the second, ... }, an answer being
--          { 'held', token or '-' }, what place() gives, or { 'gone' }: neither holds nor waits.

-- Why this comes first says words.lua.
call('ZREM', QUEUE, '')
for i = 1, #ARGV, 2 do
    local owner, ttl = ARGV[i], tonumber(ARGV[i + 1])
    if call('ZSCORE', QUEUE, owner) then
        call('ZADD', BEATS, text(now + ttl), owner)
        for _, key in ipairs({ QUEUE, BEATS, INFO }) do
            keep(key, ttl)
        end
    end
end

settle()

local answers, told = { text(micros) }, {}
for i = 1, #ARGV, 2 do
    local owner, ttl = ARGV[i], ARGV[i + 1]
    local answer = { 'gone' }
    if state == 'exclusive' and holder == owner then
        call('PEXPIRE', MAIN, ttl)
        answer = { 'held', token }
    elseif state == 'shared' and call('ZSCORE', READERS, owner) then
        keep(MAIN, tonumber(ttl))
        call('ZADD', READERS, text(now + ttl), owner)
        local _, _, _, _, minted = string.match(call('HGET', INFO, owner) or '', ENTRY)
        keep(READERS, tonumber(ttl))
        keep(INFO, tonumber(ttl))
        stretch()
        answer = { 'held', minted or '-' }
    elseif call('ZSCORE', QUEUE, owner) then
        answer = place(owner)
        told[owner] = true
    end
    answers[#answers + 1] = answer
end
tell_first(told)
return answers
