"""Generates a small table in the layout of the public vehicle claims; what it says about claims is made up."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

HEADER = (
    "Month,WeekOfMonth,DayOfWeek,Make,AccidentArea,DayOfWeekClaimed,MonthClaimed,WeekOfMonthClaimed,Sex,"
    "MaritalStatus,Age,Fault,PolicyType,VehicleCategory,VehiclePrice,FraudFound_P,PolicyNumber,RepNumber,Deductible,"
    "DriverRating,Days_Policy_Accident,Days_Policy_Claim,PastNumberOfClaims,AgeOfVehicle,AgeOfPolicyHolder,"
    "PoliceReportFiled,WitnessPresent,AgentType,NumberOfSuppliments,AddressChange_Claim,NumberOfCars,Year,BasePolicy\n"
)


def write(folder: Path, rows: int = 2000) -> None:
    chance = random.Random(15420)
    with (folder / "fraud_oracle.csv").open("w", newline="") as file:
        file.write(HEADER)
        csv.writer(file, lineterminator="\n").writerows(_claim(chance, number) for number in range(1, rows + 1))


def _claim(chance: random.Random, number: int) -> list[object]:
    month, week, day = chance.randint(1, 12), chance.randint(1, 5), chance.randint(1, 7)
    age = chance.randint(16, 80)
    fault = chance.choice(("Policy Holder", "Policy Holder", "Third Party"))
    category, base = (
        chance.choice(("Sedan", "Sport", "Utility")),
        chance.choice(("Liability", "Collision", "All Perils")),
    )
    moved = chance.choice(("no change", "no change", "no change", "under 6 months"))
    odds = -4.5 + 2.0 * (fault == "Policy Holder") + 1.5 * (base != "Liability") + 1.5 * (moved != "no change")
    return [
        *(month, week, day, chance.choice(("Honda", "Mazda", "Toyota", "Ford", "Pontiac"))),
        *(chance.choice(("Urban", "Rural")), chance.randint(1, 7), month, week),
        *(chance.choice(("Male", "Female")), chance.choice(("Single", "Married")), age, fault),
        *(f"{category} - {base}", category, chance.choice(("20000 to 29000", "30000 to 39000", "more than 69000"))),
        *(int(chance.random() < 1 / (1 + math.exp(-odds))), number, chance.randint(1, 16)),
        *(chance.choice((300, 400, 500, 700)), chance.randint(1, 4), "more than 30", "more than 30"),
        *(chance.choice(("none", "1", "2 to 4")), chance.choice(("3 years", "6 years", "7 years"))),
        *("26 to 30" if age < 31 else "31 to 35", "No", chance.choice(("No", "No", "Yes")), "External"),
        *(chance.choice(("none", "1 to 2")), moved, "1 vehicle", chance.choice((1994, 1995, 1996)), base),
    ]
