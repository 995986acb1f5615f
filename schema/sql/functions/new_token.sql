-- A fresh token: 256 random bits in base64url.
--
-- Not hexadecimal, so that the checks on stored digests refuse a token in clear.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.new_token()
returns text
language sql
volatile
return translate(encode(public.gen_random_bytes(32), 'base64'), '+/=', '-_');

comment on function public.new_token() is
'256 random bits in base64url, handed out once and stored as a digest.';
