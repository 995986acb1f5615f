-- Settings that live in rows (pandom/database/settings.py), without the key that signs
-- contexts. Asked only when the login may read them.
select
    'setting row' as kind, 'public.account_settings' as object, f.key as detail, f.value
from public.account_settings as s
cross join lateral jsonb_each_text(to_jsonb(s) - 'only_row' - 'administrator') as f
union all
select
    'setting row', 'public.trail_retention ' || r.log, f.key, f.value
from public.trail_retention as r
cross join lateral jsonb_each_text(to_jsonb(r) - 'log') as f
union all
select
    'setting row', 'public.context_key', 'enforced', k.enforced::text
from public.context_key as k;
