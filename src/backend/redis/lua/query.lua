-- Tells who holds the lock and who waits. Changes nothing.
--
-- KEYS     as in words.lua
-- returns  { value of the main key or '', { INFO entry of each reader }, { INFO entry of each waiter, in order } }

local held, pending = {}, {}
if state == 'shared' then
    for _, owner in ipairs(call('ZRANGEBYSCORE', READERS, '(' .. text(now), '+inf')) do
        held[#held + 1] = call('HGET', INFO, owner) or ''
    end
end
for _, owner in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
    if tonumber(call('ZSCORE', BEATS, owner) or '0') > now then
        pending[#pending + 1] = call('HGET', INFO, owner) or ''
    end
end
return { call('GET', MAIN) or '', held, pending }
