-- How a token is stored: its SHA-256 in hexadecimal.
--
-- Tokens are 256 random bits, so a plain digest cannot be searched backwards.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
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
