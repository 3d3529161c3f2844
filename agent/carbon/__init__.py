"""What the kWh are for: E = Em + Ep of one product, exact and typed. Pure: values in, values out.

    exact        decimals as fractions, rounded once, at output
    units        amounts with their unit as a type; CO2 and CO2e are two types
    factors      what an amount emits: value, unit, gas, boundary, region, year, source
    activity     what was used, bought, burnt, thrown away and made
    template     which sources a report lists and by which rules; locked by its hash
    footprint    the arithmetic: rows with a status, and the terms they add up to
    electricity  kWh by step and time with flat, regional or hourly factors; what was bought, made and sent out
    allocation   a period's emission to products, and what no product is given
    sharing      the same as parts of a report, and the states of the equipment
    uncertainty  how far a figure can be trusted, and which meter would help most
    report       the whole as a document of decimal texts, with the hashes of everything it was made of
    exchange     the same for other companies' programs (PACT 3.0.0)

Energy comes from `agent.metering`, already given to steps. The reference platform and the local preview call the same
functions, so that one kWh has one answer. Nothing here counts what is missing as zero.
"""
