-- How a token is stored: its SHA-256 in hexadecimal.
--
-- Tokens are 256 random bits, so a plain digest cannot be searched backwards.
-- Without a pinned search_path the planner inlines it; its names are resolved already.
set local role pandom_definer;

create or replace function public.token_digest(token text)
returns text
language sql
immutable
strict
parallel safe
return encode(sha256(convert_to(token, 'UTF8')), 'hex');

comment on function public.token_digest(text) is
'SHA-256 of a token in hexadecimal; the only form in which a token is stored.';
